"""Write container images of closures: without Docker, and the same bytes each time.

`layers` says which paths are in which layer, `tree` writes store paths as tar, `configuration` says what a container
of the image runs, and `archive` writes the file.
"""

from __future__ import annotations

from fleet.images.archive import Image, write_image
from fleet.images.configuration import Recipe, host_recipe, platform_of, program_recipe
from fleet.images.layers import MOST_LAYERS

__all__ = ["MOST_LAYERS", "Image", "Recipe", "host_recipe", "platform_of", "program_recipe", "write_image"]
