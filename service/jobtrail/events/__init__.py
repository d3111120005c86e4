"""WHAT LEAVES THE PROCESS: the history as a feed, in the order of commits, and those who follow it.

Read `feed` first.
"""
