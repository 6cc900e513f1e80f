"""Measurements on scenes whose truth is known."""
