"""One readable file per stage of a recipe, and the pipeline that runs them."""
