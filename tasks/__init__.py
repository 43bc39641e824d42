if __name__ == "tasks":
    raise ImportError("this folder is selfcorrect.tasks; install the project and import it by that name")
