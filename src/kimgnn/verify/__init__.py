"""The same structures through every runtime, and OpenKIM's verification checks of any model."""
