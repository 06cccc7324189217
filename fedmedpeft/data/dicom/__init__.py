"""DICOM files to pictures and a manifest, at the site: ``fedmedpeft data import-dicom``.

``opened`` reads the tags of a file, ``admission`` says whether it may be in, ``frames`` and ``window`` make its
pictures, ``identity`` names it, ``labels`` labels it, ``image_folder`` keeps it. ``importing`` does all that for a
folder of files, and ``import_folder`` checks the places first.
"""
