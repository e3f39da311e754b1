"""Trains the tiny text-to-image model that ships with the worker, from pictures it draws itself.

The order is render -> tokenizer -> decoder and denoiser (independent) -> encoder -> export -> evaluate;
`python -m training.all` runs it. Every stage takes its seed from `settings.py`.
"""
