"""The built-in orchard: a small renderer, and the fruits it paints.

Read it in this order:

    shapes    what fruit is made of: signed distance fields
    noise     randomness with a shape
    paints    colours of skins, cut faces and tables
    pieces    parts of one material make a piece, and rays are walked to it
    light     how pieces look under a lamp and a sky
    camera    the pixels of a photo
    whole, berries, halves    the fruits; `fruits` lists all twelve
    awkward   the files that real life brings
"""
