from . import library_book  # noqa: F401
