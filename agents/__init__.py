if __name__ == "agents":
    raise ImportError("this folder is selfcorrect.agents; install the project and import it by that name")
