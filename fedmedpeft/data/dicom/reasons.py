"""Why a file was not imported: sentences that hold for any file, so that a report may count them and name none."""

from __future__ import annotations

LINK = "symbolic link (not followed)"
NOT_A_FILE = "not a regular file"
UNLISTED = "folder that may not be listed: what is in it is not known"
UNREADABLE = "cannot be read: damaged, cut off, or no permission"
NOT_DICOM = "not a DICOM file (no DICM after 128 bytes)"
DICOMDIR = "directory of a medium (DICOMDIR), not an image"
NO_SYNTAX = "no transfer syntax in the file header"
NO_IMAGE = "no image in it (report, presentation state, document, structure set, waveform, ...)"
NOT_A_PICTURE = "pixels that are no picture (dose grid, segmentation, parametric map)"
NO_UID = "no SOP Instance UID"
BURNED_IN = "marked as having burned-in text (--burned-in)"
MAYBE_BURNED_IN = "may hold burned-in text: a kind of image that often does, and not marked as free of it (--burned-in)"
LOCALIZER = "localiser (scout) image (--localizers)"
TOO_LARGE = "larger than this command reads (64 megapixels a frame, 65,536 frames, 4 billion values in all)"
BAD_SIZE = "rows, columns, frames or bits are missing or make no sense"
COLOURS = "colours stored in a way that is not supported"
UNDECODABLE = "pixels could not be decoded: damaged, or not as the header says"
DISPLAY = "no usable rescale, lookup table or window"
STRETCHED = "pixels more than ten times longer than wide"
NO_LABEL = "no label for it"
DUPLICATE = "the same image again (same UID, same content)"
CONFLICT = "several different images under one UID"


class Skipped(Exception):  # noqa: N818 - nothing went wrong: a file is left out, and this says why.
    """A file is left out. The text is one of the sentences of this module: it holds no tag's value and no name."""


def undecodable(syntax: str, packages: str) -> Skipped:
    """What is installed reads some images of this compression, and not this one."""
    if not packages:
        return Skipped(UNDECODABLE)
    return Skipped(f"{UNDECODABLE}; compressed as {syntax}: pip install 'fedmedpeft[dicom]' may help ({packages})")


def no_decoder(syntax: str, packages: str) -> Skipped:
    """``syntax``: the standard's own name of a compression; ``packages``: what would decode it."""
    return Skipped(f"compressed as {syntax}, which needs a decoder: pip install 'fedmedpeft[dicom]' ({packages})")
