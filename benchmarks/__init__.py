"""Measured journeys and figures. Every published number has its script here."""
