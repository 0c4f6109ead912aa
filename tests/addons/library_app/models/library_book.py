from odoo import fields, models


class LibraryBook(models.Model):
    _name = "library.book"
    _description = "Book"
    _order = "name, date_published desc"

    name = fields.Char("Title", required=True)
    isbn = fields.Char("ISBN")
    active = fields.Boolean(default=True)
    date_published = fields.Date()
