"""Everything that only a card can tell, measured by one command: ``python -m tools.gpu_check``.

``parts`` lists what is measured, ``measurements`` measures it, ``runner`` starts each part as a
process of its own, ``results`` is what it leaves behind, ``table`` is what a reader sees of it.
"""
