"""The questions of forensics as tools for an assistant, over the Model Context Protocol.

Every answer is bounded, and every text in it was written by whoever made a request: it is handed
over as data that is named so, and neither moves a cursor nor hides from a reader.
"""
