from . import models  # noqa: F401 (Odoo finds the models by this import)
