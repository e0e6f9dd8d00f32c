"""Generated parts with exact pixel masks: a small dataset that needs no download and is named as what it is.

Two categories, rendered as a machine-vision camera would see them: ``machined_ring`` and ``blister_pack``.
Both have structural defects (damage) and logical ones (all parts sound, their arrangement wrong). The
randomness of an image depends on (seed, category, relative path) alone: fewer images are a subset of more.
"""
