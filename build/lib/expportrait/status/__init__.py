"""Looking at a run: what is done, what a run would do, one clip's story; trying again, and tidying up."""
