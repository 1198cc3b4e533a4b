"""The models in the browser: the embedded model, the model that can think, and their checkpoints.

Each answers in a page of the site. In: ``data/tiny_model``, ``data/thinking_model``, the data, and
the folders of finished runs where there are any. Out: files for the folder ``demo/`` of the site.
The engine is onnxruntime-web, which ``engine.py`` fetches from the npm registry before the site is
built; neither the build nor the pages need a network.

* ``questions.py``: what can be asked, and the prompts, byte for byte those of a run;
* ``weights.py``: the weights as the page reads them, adapters included;
* ``graph.py``: the forward pass as an ONNX graph without weights;
* ``export.py``: all of it together, and the pages with their weight;
* ``int8.py``: how many answers of the embedded model would change if the weights had 8 bits;
* ``keep.py``: copies what is needed of a run into ``data/demo_runs``;
* ``page/``: the pages themselves, in plain JavaScript.
"""
