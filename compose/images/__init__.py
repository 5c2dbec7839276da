"""The images of the compose lab, made from the distribution's packages and from wheels: no image registry is needed."""
