"""Responses: predictions, errors and the API's description."""
