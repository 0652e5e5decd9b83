"""Disclosure of a swap: signed credentials, sidecars, XMP metadata, a visible label, consent."""
