"""The verbs: one config and one function (or model class) each."""
