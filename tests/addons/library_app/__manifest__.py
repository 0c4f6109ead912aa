{  # noqa: B018 (Odoo evaluates this file)
    "name": "Library Books",
    "summary": "The model that the library command works on, for its tests",
    "version": "1.0",
    "author": "odoo-library-client",
    "license": "Other OSI approved licence",
    "category": "Hidden",
    "depends": ["base"],
    "data": ["security/ir.model.access.csv", "data/res_users.xml"],
}
