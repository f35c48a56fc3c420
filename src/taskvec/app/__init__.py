"""A page in the browser: task vectors tried, added up, looked into and made, with the extra ``app``.

Only ``page`` knows gradio; what it shows is made by the others.
"""
