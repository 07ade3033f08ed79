"""The lab: a page in the browser that runs a model file and shows every value; `page/` holds its code."""
