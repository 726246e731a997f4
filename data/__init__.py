"""Data sets: invented, fetched, converted and looked through.

synthetic, strips, textures        strips of steel, so that everything runs without any data
download                           the Kaggle data, with the user's own credentials
conversion                         what all converters share
from_masks, pairing, label_maps    from label maps
from_coco, coco_masks              from COCO
from_labelme, labelme_shapes       from LabelMe
annotation_files                   the JSON of both, and the images that it names
check                              what a data set holds, and what is wrong with it
image_files, mask_fit, suspects    what is worth a look
twins                              how the masks of near-duplicates agree
"""
