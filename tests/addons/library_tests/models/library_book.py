from odoo import models
from odoo.exceptions import UserError


class LibraryBook(models.Model):
    _inherit = "library.book"

    # An override that forgets its "return", as many do: Odoo commits the change, and then can't
    # write None as its reply. (It trips over that of "create" earlier, and makes no change.)

    def write(self, vals):
        if "unacceptable" in (vals.get("name") or ""):
            raise UserError("Not this title.\n\nPlease.")
        written = super().write(vals)
        return None if "forgetful" in (vals.get("name") or "") else written

    def unlink(self):
        forgetful = any("forgetful" in book.name for book in self.exists())
        unlinked = super().unlink()
        return None if forgetful else unlinked
