"""The report on a terminal, and the same text when it is piped.

Every function takes a view model and a rich ``Console`` and prints. Whether there is colour is the
console's decision (``NO_COLOR``, a pipe); nothing here is carried by colour alone. Text from a log
reaches the console only as ``rich.text.Text`` of ``inert.plain``, never as markup.
"""
