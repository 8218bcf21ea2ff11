"""What lead and hospitals say to each other about a study: questions, wishes for changes, declines.

Nothing here binds anybody: an approval is a signature (federation/studies), and so is an order of release or
serving. Texts are plain and can be erased; the transparency log has a salted hash of each.
"""
