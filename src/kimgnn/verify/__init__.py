"""The same structures through every runtime."""
