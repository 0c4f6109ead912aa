{  # noqa: B018 (Odoo evaluates this file)
    "name": "Library Books, tests",
    "summary": "What the tests need beside the books: not for a catalogue that is used",
    "version": "1.0",
    "author": "odoo-library-client",
    "license": "Other OSI approved licence",
    "category": "Hidden",
    "depends": ["library_app"],
    "data": ["data/res_users.xml"],
}
