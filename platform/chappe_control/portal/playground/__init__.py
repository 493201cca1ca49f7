"""A place to try the models: the browser calls the regional gateway itself, with a token that this page is given."""
