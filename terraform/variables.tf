variable "region" {
  description = "A region of the EU that has EMR. verger/cloud/regions.py has the same list."
  type        = string
  default     = "eu-west-1"

  validation {
    condition = contains([
      "eu-west-1", "eu-west-3", "eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eusc-de-east-1",
    ], var.region)
    error_message = "Choose a region inside the EU; eu-west-2 and eu-central-2 are outside."
  }
}

variable "mail" {
  description = "Who is told of clusters and costs."
  type        = string
}

variable "project" {
  description = "Name of everything, and value of the tag verger:project."
  type        = string
  default     = "verger"
}

variable "ceiling_eur" {
  description = "Ceiling of the monthly budget, in the bill's currency."
  type        = number
  default     = 10
}

variable "vpc_id" {
  description = "A VPC of your own; empty for a small one that is made."
  type        = string
  default     = ""
}

variable "subnet_id" {
  description = "A public subnet of that VPC; empty with vpc_id."
  type        = string
  default     = ""
}
