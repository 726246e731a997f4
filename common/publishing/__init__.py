"""A run made into a folder for others: the work of `common.publish`.

card     the model card, README.md
folder   what goes into the folder
"""
