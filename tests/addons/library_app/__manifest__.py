{  # noqa: B018 (Odoo evaluates this file)
    "name": "Library Books",
    "summary": "A catalogue of books, for the library command",
    "version": "1.0",
    "author": "odoo-library-client",
    "license": "Other OSI approved licence",
    "category": "Services",
    "depends": ["base"],
    "data": ["security/ir.model.access.csv"],
}
