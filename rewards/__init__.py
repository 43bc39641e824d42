if __name__ == "rewards":
    raise ImportError("this folder is selfcorrect.rewards; install the project and import it by that name")
