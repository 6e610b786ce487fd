"""The same run on AWS, in the EU, for less than ten euros: estimate, set up, upload, run, open, look, end."""
