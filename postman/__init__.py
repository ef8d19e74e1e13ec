"""The Postman collection, and what makes it from the OpenAPI document."""
