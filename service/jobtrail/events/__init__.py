"""WHAT LEAVES THE PROCESS: the history as a feed, in the order of commits, and those who follow it.

Read `feed` and `cursors` (how far something has followed it) first. Then who follows: `delivery` (webhooks, sent by
`post`), `numbers` (totals and stats, which `metrics` tells Prometheus), and `hub`, the one look at the database for
all that wait in a process, with `readers` (of the feed, or of one job) and `job_news` (what became of single jobs).
"""
