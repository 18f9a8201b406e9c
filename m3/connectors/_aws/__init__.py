"""
What the connectors of AWS share.

``client`` (the client of a stage, and AWS's errors), ``batches`` (items to calls
that may fail in part), ``payloads`` (bytes and text of items).  Of
``sqs``: ``receipts`` (messages that are being worked on).  Of ``s3``: ``listing``,
``bodies`` (objects, read), ``visits`` (how far they were read), ``uploads`` and
``parts`` (objects, written).  Of ``dynamodb``: ``attributes``.
"""
