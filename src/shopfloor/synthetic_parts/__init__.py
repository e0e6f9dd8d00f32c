"""Generated parts with exact pixel masks: a small dataset that needs no download and is named as what it is.

Two categories, rendered as a machine-vision camera would see them: ``machined_ring`` and ``blister_pack``.
Both have structural defects (damage) and logical ones (all parts sound, their arrangement wrong). The
randomness of an image depends on (seed, category, relative path) alone: fewer images are a subset of more.

The module of a category names its ``DEFECTS``. Its ``draw(part, damage, defect, size)`` draws one part with one of them
or ``good``. It takes two generators: ``part`` is all that is random about a sound part, ``damage`` about the defect;
``size`` is the side in pixels. It gives the scene (size, size, 3), linear RGB, and the opacity of the defect (size,
size), 0..1.
"""
