"""The report page: one self-contained file.

page      the page put together
answer    which variant is best, and whether its lead holds
table     the sortable table
charts    what is drawn
tradeoffs quality against what it costs, a line a network
lines     line charts with intervals
svg       how it is drawn
gallery   strips that wipe between image, truth and predictions
text      numbers in words
"""
