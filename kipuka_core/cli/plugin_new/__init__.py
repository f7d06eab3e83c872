"""``kipuka plugin new``: a distribution with a plugin of one kind, made of the templates beside this file."""
