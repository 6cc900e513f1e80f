"""`layerlift app`: a local web page, and the API behind it. It decides nothing that the command line does not decide.

Read `server.py` for what is served, `jobs.py` for how work is run, and docs/app.md for the API. Nothing here imports
torch: the server stays small, and answers at once.
"""
