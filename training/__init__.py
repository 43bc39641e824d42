if __name__ == "training":
    raise ImportError("this folder is selfcorrect.training; install the project and import it by that name")
