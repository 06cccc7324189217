"""The one error of the data room."""

from __future__ import annotations

PRIVATE = "The site's data could not be used; the site's own log says why."


class DataError(ValueError):
    """Data from outside is not as it must be. The message names the thing, what was expected and how to mend it.

    The message may contain file names and patient ids, so it is for the site's own eyes. What may leave the site is
    ``public``: a sentence that names neither.
    """

    def __init__(self, message: str, *, public: str = PRIVATE) -> None:
        super().__init__(message)
        self.public = public
