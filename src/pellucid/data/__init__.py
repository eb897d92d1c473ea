"""Where images come from: named sets, folders, tables, Python datasets; splits and batches."""
