from segdistill.sweep.names import LONGEST, folder_name, plan_jobs, short_names


def test_a_name_says_what_distinguishes_the_job_and_no_more():
    jobs = plan_jobs(
        [["epochs=2", "student=enet", "kd.terms.cwd.weight=1"], ["epochs=2", "student=enet", "kd.terms.cwd.weight=2"]],
        ["student", "kd.terms.cwd.weight"],
    )
    assert [job.name for job in jobs] == ["student=enet,weight=1", "student=enet,weight=2"]
    assert jobs[0].choices == {"student": "enet", "weight": "1"}
    assert jobs[0].overrides == ("epochs=2", "student=enet", "kd.terms.cwd.weight=1")


def test_who_runs_a_job_and_what_is_printed_make_no_other_job():
    first = plan_jobs([["epochs=2", "seed=0", "cluster.jobs=2"]], ["seed"])
    again = plan_jobs([["output=json", "seed=0", "epochs=2", "cluster=slurm", "search.n_jobs=3"]], ["seed"], first)
    assert again[0].name == first[0].name
    other = plan_jobs([["epochs=3", "seed=0"]], ["seed"], first)
    assert other[0].name != first[0].name


def test_keys_are_shortened_as_far_as_they_stay_apart():
    assert short_names(["kd.terms.cwd.weight", "kd.terms.pixel_kl.weight", "seed"]) == {
        "kd.terms.cwd.weight": "cwd.weight",
        "kd.terms.pixel_kl.weight": "pixel_kl.weight",
        "seed": "seed",
    }
    assert short_names(["weight", "a.weight"]) == {"weight": "weight", "a.weight": "a.weight"}
    assert short_names(["+attention@student.attention.decoder"]) == {"+attention@student.attention.decoder": "decoder"}


def test_a_job_of_a_grid_that_lacks_an_axis_does_without_it():
    jobs = plan_jobs([["kd=none", "seed=0"], ["kd=logits", "kd.terms.pixel_kl.weight=2", "seed=0"]],
                     ["kd", "kd.terms.pixel_kl.weight", "seed"])  # fmt: skip
    assert [job.name for job in jobs] == ["kd=none,seed=0", "kd=logits,weight=2,seed=0"]


def test_names_are_folders_that_no_shell_minds():
    assert folder_name("checkpoint=/a b/c.pt,kd=[pixel_kl,cwd]") == "checkpoint=_a_b_c.pt,kd=_pixel_kl,cwd"
    assert folder_name("") == "run"
    long = folder_name("x=" + "y" * 500)
    assert len(long) == LONGEST
    assert long != folder_name("x=" + "y" * 501)


def test_jobs_whose_values_look_alike_as_folders_are_kept_apart():
    first, second = plan_jobs([["a=x/y"], ["a=x y"]], ["a"])
    assert first.name == "a=x_y"
    assert second.name.startswith("a=x_y_")
    again = plan_jobs([["a=x/y"]], ["a"], taken=[first, second])
    assert again[0].name == first.name
