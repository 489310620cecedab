"""What stands on the wire: /v1, /v2, problem documents, OpenAPI."""
