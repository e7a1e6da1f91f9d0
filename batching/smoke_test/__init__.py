"""Tests of a running gateway over HTTP: the client, the checks and the base command."""
