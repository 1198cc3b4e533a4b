"""The model in the browser: the embedded model and its checkpoints answer in a page of the site.

In: ``data/tiny_model``, the data, and the folder of a finished run where there is one. Out: files
for the folder ``demo/`` of the site. The engine is onnxruntime-web, which ``engine.py`` fetches
from the npm registry before the site is built; neither the build nor the page needs a network.

* ``questions.py``: what can be asked, and the prompts, byte for byte those of a run;
* ``weights.py``: the weights as the page reads them, adapters included;
* ``graph.py``: the forward pass as an ONNX graph without weights;
* ``export.py``: all of it together, and the page with its weight;
* ``int8.py``: how many answers would change if the weights had 8 bits;
* ``page/``: the page itself, in plain JavaScript.
"""
