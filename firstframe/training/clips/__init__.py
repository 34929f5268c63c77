"""From files of clips to samples: finding, checking, cutting, sizing, and caching what the encoders make of them."""
