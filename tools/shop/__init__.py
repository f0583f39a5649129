"""The generator of data/shop and its checks; tools/make-shop is the command."""
