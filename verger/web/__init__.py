"""The phone page: a photo in, the name of the fruit and its card out. `pip install 'verger[web]'`."""
