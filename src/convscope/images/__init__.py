"""Any image file to the uint8 array that a network sees, by one specified integer algorithm."""
