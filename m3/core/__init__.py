"""The classes of os-m3-engine, where its users import them from."""
